"""Reports from results alone: Markdown, HTML and figures, the same bytes for the same run on any machine."""

from bench.report.pages import write

__all__ = ["write"]
