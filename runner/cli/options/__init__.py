"""The options that several verbs share, and how every verb's options are declared."""
