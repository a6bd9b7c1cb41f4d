"""`python -m sms_dist` is the `sms-dist` command."""

from sms_dist.cli.main import main

main()
