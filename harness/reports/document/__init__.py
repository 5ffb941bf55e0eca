"""Documents as values, and their forms: Markdown, LaTeX, formatted numbers."""
