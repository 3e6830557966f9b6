"""From messages to a prompt, by the model's chat template, and from tokens to text."""
