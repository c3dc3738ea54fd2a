"""The script, as a user runs it, in this process."""

import sys

import pytest

from minitron.cli import main


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the script's main in this process; give exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["minitron", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return exit_.value.code, captured.out, captured.err

    return run
