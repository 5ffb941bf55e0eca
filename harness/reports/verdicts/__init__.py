"""What may be said of two methods, two result sets, or a claim."""
