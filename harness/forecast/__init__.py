"""What a suite will cost before it runs."""
