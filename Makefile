# Every target sets itself up in .venv. PYTHON=python3.12 make test: with another interpreter.
PYTHON ?= python3
BIN = .venv/bin
# Idle threads sleep instead of spinning: two processes on two cores do not slow each other down a hundredfold.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test lint bench clean

.venv/ready: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# Train, evaluate and render on demo people: what comes out lies in output/.
demo: .venv/ready
	$(BIN)/python prepare_data_demo.py --output output/data --frames 60
	$(BIN)/python run_s-agcn.py -d demo --data-dir output/data -c output -arc 3,3 -ch 16 -b 32 -e 3 --stride 3 -da -tta
	$(BIN)/python run_s-agcn.py -d demo --data-dir output/data -c output -arc 3,3 -ch 16 -tta --evaluate --render \
		--viz-subject S9 --viz-action Walking --viz-size 3 --viz-output output/walking.mp4 \
		--viz-export output/walking.npz

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto

lint: .venv/ready
	$(BIN)/ruff check .

bench: .venv/ready
	$(BIN)/python benchmark.py

clean:
	rm -rf .venv output
