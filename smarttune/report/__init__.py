"""What a person reads: recommendations, runs and reports as text, Markdown, HTML and code."""
