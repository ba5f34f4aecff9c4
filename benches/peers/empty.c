/* Nothing: what any preload library costs. */
