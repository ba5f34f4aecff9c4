#!/bin/sh
# ray.sh OPTION...: `ray start` on a node, so that every worker there has the library: workers inherit the environment of
# `ray start`, and not the one of the program that calls ray.init(address="auto").
#
# LD_PRELOAD in a job's `runtime_env` replaces this one: name both libraries there.
exec mrlock run --gpu -- ray start "$@"
