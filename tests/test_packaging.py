"""The four top-level packages are ours alone, whatever else is installed."""

from importlib.metadata import distribution

from server.packaging import DISTRIBUTION, packaging_problems


def test_no_other_distribution_owns_one_of_the_four_packages():
    assert list(packaging_problems()) == []


def test_the_installed_command_is_parley():
    scripts = distribution(DISTRIBUTION).entry_points.select(group="console_scripts")

    assert [(script.name, script.value) for script in scripts] == [("parley", "parley_main:main")]
