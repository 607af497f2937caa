#!/usr/bin/env python3
"""The results of `scripts/gpu.sh run` as one table: Markdown on standard output, results.json beside them.

    python3 scripts/gpu_report.py RESULTS
"""

import json
import re
import sys
from pathlib import Path


def read(path):
    return path.read_text(errors="replace").strip() if path.exists() else ""


def parts(folder):
    for line in read(folder / "parts.tsv").splitlines():
        name, outcome, seconds, limit = line.split("\t")
        yield {"name": name, "outcome": outcome, "seconds": float(seconds), "limit": float(limit),
               "memory_mib": peak(folder / f"{name}.gpu")}


def peak(path):
    """The most memory of the GPU in use, MiB, if it was watched."""
    used = [line.split(",")[0].strip() for line in read(path).splitlines()]
    return max((int(mib) for mib in used if mib.isdigit()), default=None)


def conformance(path):
    try:
        report = json.loads(read(path))
    except json.JSONDecodeError:
        return None
    checks = report["operations"]["checks"]
    verdict = lambda check: check["verdict"]["verdict"] if isinstance(check["verdict"], dict) else check["verdict"]
    failed = [check for check in checks if verdict(check) == "fail"]
    return {
        "device": report["device"],
        "checks": len(checks),
        "passed": sum(verdict(check) == "pass" for check in checks),
        "unsupported": sum(verdict(check) == "unsupported" for check in checks),
        "failed": [{"name": check["name"], "dtype": check["dtype"], "max_error": check["max_error"],
                    "tolerance": check["tolerance"], "known": check["known"]} for check in failed],
        "edits": [{"name": edit["name"], "pass": edit["pass"]} for edit in report["edits"]],
    }


def edits(folder):
    """Every measured edit: size, dtype, plan, steps and the seconds of its stages."""
    for path in sorted(folder.glob("edits-*.jsonl")):
        device, dtype = re.fullmatch(r"edits-(.+)-(\w+)", path.stem).groups()
        for line in read(path).splitlines():
            job = json.loads(line)
            name = re.fullmatch(r"edit-(\d+)-(.+)-(\d+)", job["name"])
            if not name:
                continue
            size, plan, steps = name.groups()
            row = {"device": device, "dtype": dtype, "size": int(size), "plan": plan, "steps": int(steps),
                   "status": job["status"]}
            if job["status"] == "done":
                seconds = dict(job["report"]["seconds"])
                row |= {"seconds": sum(seconds.values()), "stages": seconds,
                        "computed": job["report"]["steps"]["computed"]}
            yield row


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    results = {
        key: read(folder / key) for key in ["commit", "features", "profile", "preset", "date"]
    }
    results["machine"] = read(folder / "machine.txt")
    results["devices"] = read(folder / "devices.txt")
    results["parts"] = list(parts(folder))
    results["conformance"] = [
        found for path in sorted(folder.glob("conformance-*.out")) if (found := conformance(path))
    ]
    results["edits"] = list(edits(folder))
    results["bench"] = {}
    for path in sorted(folder.glob("bench-*.json")):
        results["bench"][path.stem.removeprefix("bench-")] = json.loads(read(path))["stages"]
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")

    gpu = re.search(r"NVIDIA [A-Z][\w ]+?(?=  )", results["machine"])
    print(f"# {gpu.group() if gpu else 'No NVIDIA GPU'}, {results['date']}\n")
    print(f"Commit {results['commit'][:12]}, profile `{results['profile']}`, features `{results['features']}`, "
          f"preset {results['preset']}.\n\n```text\n{results['devices']}\n```\n")
    print("## Parts\n\n| part | outcome | seconds | limit | memory of the GPU |\n|---|---|---|---|---|")
    for part in results["parts"]:
        memory = f"{part['memory_mib'] / 1024:.1f} GiB" if part["memory_mib"] is not None else ""
        print(f"| {part['name']} | {part['outcome']} | {part['seconds']:.1f} | {part['limit']:.0f} | {memory} |")
    for report in results["conformance"]:
        print(f"\n## Conformance of {report['device']}\n\n{report['passed']} of {report['checks']} operations pass, "
              f"{report['unsupported']} are unsupported; "
              + "; ".join(f"edit {edit['name']}: {'equal' if edit['pass'] else 'DIFFERS'}" for edit in report["edits"])
              + ".")
        if report["failed"]:
            print("\n| failed | dtype | error | tolerance | known |\n|---|---|---|---|---|")
            for check in report["failed"]:
                error = "" if check["max_error"] is None else f"{check['max_error']:.1e}"
                print(f"| {check['name']} | {check['dtype'] or 'int'} | {error} | {check['tolerance']:.1e} | "
                      f"{check['known'] or ''} |")
    if results["edits"]:
        print("\n## Edits\n\nSeconds of whole edits by random weights; `computed` is the part of the work of as many "
              "full steps.\n\n| device | size | dtype | steps | plan | seconds | sampling | computed |\n"
              "|---|---|---|---|---|---|---|---|")
        for row in results["edits"]:
            numbers = (f"{row['seconds']:.2f} | {row['stages']['sample']:.2f} | {row['computed']:.0%}"
                       if "seconds" in row else f"{row['status']} | | ")
            print(f"| {row['device']} | {row['size']} | {row['dtype']} | {row['steps']} | {row['plan']} | {numbers} |")
    if results["bench"]:
        print("\n## Stages\n\n| device, dtype, size | stage | median s | fastest | GFLOP/s |\n|---|---|---|---|---|")
        for name, stages in results["bench"].items():
            for stage in stages:
                rate = stage.get("gflops_per_second")
                print(f"| {name} | {stage['stage']} | {stage['median_seconds']:.4f} | {stage['min_seconds']:.4f} | "
                      f"{'' if rate is None else f'{rate:.0f}'} |")
    if text := read(folder / "pytorch.out"):
        print(f"\n## Beside PyTorch\n\n{text}")
    if text := read(folder / "profile.out") or read(folder / "profile.txt"):
        print("\n## Kernels of a transformer step\n\n```text\n" + "\n".join(text.splitlines()[-60:]) + "\n```")


if __name__ == "__main__":
    main()
