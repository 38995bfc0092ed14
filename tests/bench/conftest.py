import pytest

from bench import report, results


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The folder of a report of these runs, written once."""
    folders = {}

    def write(*paths):
        if paths not in folders:
            folders[paths] = report.write(
                [results.load(path) for path in paths], tmp_path_factory.mktemp("report")
            ).parent
        return folders[paths]

    return write
