"""The documentation: guides in Markdown, and a page per metric made from its declaration and from real runs."""
