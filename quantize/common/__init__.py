"""What every room uses: errors, files, JSON and YAML, signals, worker processes."""
