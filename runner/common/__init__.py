"""What every room uses: memory and cores of this machine, bounded regular expressions."""
