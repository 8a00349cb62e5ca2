# Every target sets itself up in .venv. PYTHON=python3.12 make test: with another interpreter.
PYTHON ?= python3
BIN = .venv/bin
# Idle threads sleep instead of spinning: two processes on two cores do not slow each other down a hundredfold.
export OMP_WAIT_POLICY ?= PASSIVE
# Of what pip installs only what is imported is compiled, once: that takes a third of the time, if it may be kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-video demo-3dhp demo-contextpose test lint bench clean

PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
.venv/ready: requirements.txt
	$(PYTHON) -m venv .venv
	$(PIP) -r requirements.txt
	touch $@

# What the tests need on top: ruff, pytest, a browser's remote control, readers of exported files.
.venv/dev: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(PIP) -r requirements-dev.txt
	touch .venv/ready $@

# Train, evaluate and render on demo people: what comes out lies in output/.
demo: .venv/ready
	$(BIN)/python prepare_data_demo.py --output output/data --frames 60
	$(BIN)/python run_s-agcn.py -d demo --data-dir output/data -c output -arc 3,3 -ch 16 -b 32 -e 3 --stride 3 -da -tta
	$(BIN)/python run_s-agcn.py -d demo --data-dir output/data -c output -arc 3,3 -ch 16 -tta --evaluate --render \
		--viz-subject S9 --viz-action Walking --viz-size 3 --viz-output output/walking.mp4 \
		--viz-export output/walking.npz
	$(BIN)/python results.py view output/walking.npz
	$(BIN)/python results.py export output/walking.npz output/walking.bvh

# A user's own video: filmed, detected and lifted. The result is output/video/walking_3d.mp4.
demo-video: .venv/ready
	$(BIN)/python prepare_data_demo.py --raw video --output output/video
	$(BIN)/python run_video.py output/video/walking.mp4 --detections output/video/walking.mp4.npz -tta \
		--evaluate checkpoint/demo/16_detectron_pt_coco_9_supervised.bin --output output/video/walking_3d.mp4 \
		--export output/video/walking_3d.npz

# GLA-GCN on MPI-INF-3DHP: raw files of demo people, the full model, PCK and AUC. Results lie in output/3dhp/.
demo-3dhp: .venv/ready
	$(BIN)/python prepare_data_demo.py --raw 3dhp --output output/3dhp/raw --frames 100
	$(BIN)/python prepare_data_3dhp.py --source output/3dhp/raw --output output/3dhp
	$(BIN)/python main_sagcn_gpus_individual_fc_3dhp.py --root_path output/3dhp --checkpoint output/3dhp --frames 27 \
		--channel 16 --batch_size 32 --stride 3 --nepoch 3 --lr 1e-2 --lr_decay 0.5

# ContextPose on rendered demo people, from Human3.6M's raw files on. Results lie in output/contextpose/.
CONTEXTPOSE = $(BIN)/python run_contextpose.py --config experiments/demo/contextpose.yaml
# Large tensors come from memory that is kept: fresh pages cost a third of the time on a CPU (read by glibc only).
demo-contextpose: export MALLOC_MMAP_MAX_ = 0
demo-contextpose: export MALLOC_TRIM_THRESHOLD_ = 8589934592
demo-contextpose: .venv/ready
	$(BIN)/python prepare_data_demo.py --raw h36m --output output/contextpose/raw
	$(BIN)/python prepare_data_h36m.py --images --raw output/contextpose/raw --output output/contextpose/human36m
	$(CONTEXTPOSE)
	$(CONTEXTPOSE) --eval
	$(CONTEXTPOSE) --eval --set val.max_n_views=1 --output output/contextpose/one_view
	$(CONTEXTPOSE) --predict output/contextpose/human36m/processed/S9/Greeting-1/imageSequence-undistorted/60457274 \
		--intrinsics 1145.5,1144.8,515.0,501.9 --boxes 350,145,800,560 --output output/contextpose/poses

test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadgroup --no-loadscope-reorder

lint: .venv/dev
	$(BIN)/ruff check .

bench: .venv/ready
	$(BIN)/python benchmark.py

clean:
	rm -rf .venv output
