"""The command `mmwa`: run notebooks strictly, list their parameters, look after datasets and runs."""

from mmwa_utils.cli.main import app
