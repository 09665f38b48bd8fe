"""How far a query scales: a calculation from what `bench/run.sh --scaling` measured.

    python3 bench/model.py [--scale 1000] [--threads 8] [--gbit 10] [--workers 1,2,5,10,20,50,100,200]

TPC-H without Q18, 21 queries one after the other, on workers of so many threads that reach each other by so many Gbit/s. What is
measured stands in MEASURED; what larger tables and more threads change is taken to be in proportion. Q18 is left out because two
workers took less than half of the processor time of one for it, which would flatter all others.
"""

import argparse

# Workers of one thread on two cores of x86_64; results/2026-11-28-scaling-sf10.md, but for the crew, which is of -sf1.md.
MEASURED = {
    # Seconds of processor for each unit of scale, without an exchange.
    "cpu": 13.3,
    # The same with exchanges, for two workers, over that: rows are sorted into partitions, sent, received and joined in parts.
    "exchange_cpu": 1.48,
    # Bytes that left a worker of two, for all queries and each unit of scale: half of what was exchanged. They are not packed;
    # between machines they are, to a third.
    "sent": 1439 * 2**20,
    # Milliseconds of processor that a crew takes for a query of one exchange: for each worker, and for each pair of them.
    "crew_each": 4.1,
    "crew_pair": 0.52,
    # The stages of the plans besides their heads.
    "exchanges": 121,
}
QUERIES = 21


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scale", type=float, default=1000)
    arguments.add_argument("--threads", type=int, default=8)
    arguments.add_argument("--gbit", type=float, default=10)
    arguments.add_argument("--workers", default="1,2,5,10,20,50,100,200")
    options = arguments.parse_args()

    print(f"TPC-H without Q18 at scale factor {options.scale:g}, workers of {options.threads} threads and {options.gbit:g} Gbit/s:")
    print()
    print("| Workers | work | network | crew | all queries | speed-up | of the ideal |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    alone = sum(parts(1, options))
    for workers in map(int, options.workers.split(",")):
        work, network, crew = parts(workers, options)
        all_of_it = work + network + crew
        speed_up = alone / all_of_it
        print(
            f"| {workers} | {work:.1f} s | {network:.1f} s | {crew:.1f} s | {all_of_it:.1f} s | {speed_up:.1f} "
            f"| {speed_up / workers:.0%} |"
        )


def parts(workers, options):
    """Seconds of work, of bytes on their way, and of having a crew at all."""
    cpu = MEASURED["cpu"] * options.scale
    if workers == 1:
        # One worker of several threads exchanges rows among these, which is left out, and sends nothing.
        return cpu / options.threads, 0.0, 0.0
    work = cpu * MEASURED["exchange_cpu"] / (workers * options.threads)
    exchanged = MEASURED["sent"] * 2 * options.scale / 3
    # What stays with a worker is not sent; all of them send and receive at once.
    network = exchanged * (workers - 1) / workers / workers / (options.gbit * 1e9 / 8)
    # Leases and plans are the head's; pairs are everybody's, and have a stream for each thread instead of for two.
    each = MEASURED["crew_each"] * workers * QUERIES
    pairs = MEASURED["crew_pair"] * workers**2 * options.threads / 2 * MEASURED["exchanges"] / (workers * options.threads)
    return work, network, (each + pairs) / 1000


if __name__ == "__main__":
    main()
