"""What every room uses: errors, files, random numbers, units, and what PyTorch tells."""
