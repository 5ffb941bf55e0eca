"""Children: started clean, bounded, never left behind."""
