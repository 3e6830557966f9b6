"""What is left when llama.cpp dies: the record of its work, and the line about it."""
