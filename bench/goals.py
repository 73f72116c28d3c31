"""What `bench/run learn` and `infer` are held to, from the rows that they measured. A goal: what, value, bound, unit,
whether more is better. Those of contenders that were not run are left out."""

# Times that a learning step is faster: our dtype, the rival, its dtype. In bf16 by the processor's widest instructions
# for it; without any there is no goal.
LEARN = {("fp32", "torch-recast", "fp32"): 2}
LEARN_BF16 = {
    "amx_bf16": {("bf16", "torch-recast-compiled", "bf16"): 2, ("bf16", "torch-recast", "fp32"): 8,
                 ("bf16", "peft-lora", "fp32"): 5},
    "avx512_bf16": {("bf16", "torch-recast-compiled", "bf16"): 1.4, ("bf16", "torch-recast", "fp32"): 5,
                    ("bf16", "peft-lora", "fp32"): 5}}
LEARN_MEMORY = 0.5                               # of torch-recast's peak, in each dtype
INFER, INFER_SMALL, SMALL_BATCH = 1.25, 1.5, 32  # beside the best rival; batches of fewer images are small


def of_learning(name, rows, flags):
    speeds = {(row["dtype"], row["rival"]): row for row in rows if row["what"] == "speed"}
    in_bf16 = next((bounds for flag, bounds in LEARN_BF16.items() if flag in flags), {})
    goals = []
    for (dtype, rival, its_dtype), bound in {**in_bf16, **LEARN}.items():
        if (dtype, rival) in speeds and (its_dtype, rival) in speeds:
            ours, theirs = speeds[dtype, rival]["ours"], speeds[its_dtype, rival]["theirs"]
            goals.append((f"{name} {dtype}: speed beside {rival} in {its_dtype}", ours["median"] / theirs["median"],
                          bound, "times", True))
    return goals + [(f"{name} {row['dtype']}: peak memory", 1 / row["ratio"], LEARN_MEMORY, "of torch-recast's", False)
                    for row in rows if (row["what"], row["rival"]) == ("peak memory", "torch-recast")]


def of_inference(name, rows, batch):
    bound, goals = INFER_SMALL if batch < SMALL_BATCH else INFER, []
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        speeds = [row for row in rows if (row["what"], row["dtype"]) == ("speed", dtype)]
        best = min(speeds, key=lambda row: row["ratio"])
        goals.append((f"{name} {dtype}, batches of {batch}: speed beside {best['rival']}, the best rival",
                      best["ratio"], bound, "times", True))
    return goals
