"""`torchrun -m sms_dist.start` is `torchrun launcher/main.py`."""

from sms_dist.start import main

if __name__ == "__main__":
    main()
