"""What the command line prints of a report: its verdict, and what each figure would show."""

from rich.console import Console
from rich.text import Text

from nas import wording
from nas.report import SearchReport
from nas.report_figures import figures
from nas.report_tables import spending_table
from nas.tables import FittedTable


def print_report(console: Console, report: SearchReport) -> None:
    """Print a report in words: the verdict, what was spent on what, and what each figure shows."""
    name = f" ({wording.visible(report.name)})" if report.name else ""
    console.print(Text(f"search {report.search_id}{name}", style="bold"), soft_wrap=True)
    console.print(Text("\n".join(report.verdict)), soft_wrap=True)
    spent = spending_table(report)
    table = FittedTable(*spent.columns)
    for row in spent.rows:
        table.add_row(*row)
    console.print(table)
    for figure in figures(report):
        console.print(Text.assemble((f"{figure.title}: ", "bold"), figure.caption), soft_wrap=True)
