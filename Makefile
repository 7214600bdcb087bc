# The work is done by dev.py, which runs without make too: python3 dev.py demo
PYTHON ?= python3

.PHONY: demo test check

demo test check:
	@$(PYTHON) dev.py $@
