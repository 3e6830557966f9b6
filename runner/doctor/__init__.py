"""What `franken-gguf doctor` reports: the llama.cpp build, devices, unused GPUs."""
