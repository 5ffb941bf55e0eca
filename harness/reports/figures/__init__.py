"""Points to figures for papers."""
