"""The report of a pipeline run: one HTML file that opens offline."""

from eval.report.page import write_report

__all__ = ["write_report"]
