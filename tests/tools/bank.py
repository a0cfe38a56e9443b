#!/usr/bin/env python3
"""A bank in an SQLite database, whose money never changes in sum.

    bank.py open DB MODE      makes the accounts; MODE is a journal mode: wal, delete, ...
    bank.py work DB MODE      transfers between accounts until it is killed; a dot for each
                              hundred transactions
    bank.py check DB          integrity and sum; prints how many transfers there were

A copy of the database's files, taken at one moment, is what a crash would have left: it
has to pass the check."""

import random
import sqlite3
import sys

ACCOUNTS = 200
START = 1000


def connect(path, mode):
    db = sqlite3.connect(path, isolation_level=None, timeout=600)
    got = db.execute(f"pragma journal_mode={mode}").fetchone()[0]
    if got != mode:
        sys.exit(f"bank.py: {path}: journal mode {got}, not {mode}")
    return db


def make(path, mode):
    db = connect(path, mode)
    db.execute("begin")
    db.execute("create table account (id integer primary key, balance integer, note text)")
    db.execute("create table transfer (id integer primary key, a integer, b integer, amount integer)")
    db.executemany("insert into account values (?, ?, '')", ((i, START) for i in range(ACCOUNTS)))
    db.execute("commit")


def work(path, mode):
    db = connect(path, mode)
    count = 0
    while True:
        a, b, amount = random.randrange(ACCOUNTS), random.randrange(ACCOUNTS), random.randrange(100)
        db.execute("begin immediate")
        db.execute("update account set balance = balance - ?, note = ? where id = ?", (amount, "x" * amount * 9, a))
        db.execute("update account set balance = balance + ? where id = ?", (amount, b))
        db.execute("insert into transfer (a, b, amount) values (?, ?, ?)", (a, b, amount))
        db.execute("commit")
        count += 1
        if count % 100 == 0:
            print(".", flush=True)


def check(path):
    db = sqlite3.connect(path)
    verdict = db.execute("pragma integrity_check").fetchone()[0]
    if verdict != "ok":
        sys.exit(f"bank.py: {path}: integrity_check: {verdict}")
    accounts, total = db.execute("select count(*), sum(balance) from account").fetchone()
    if accounts != ACCOUNTS or total != ACCOUNTS * START:
        sys.exit(f"bank.py: {path}: {accounts} accounts with {total} in sum")
    flows = db.execute("select (select coalesce(sum(amount), 0) from transfer where b = account.id)"
                       " - (select coalesce(sum(amount), 0) from transfer where a = account.id), balance from account")
    if any(START + flow != balance for flow, balance in flows):
        sys.exit(f"bank.py: {path}: a balance is not what its transfers say")
    print(db.execute("select count(*) from transfer").fetchone()[0])


def main():
    commands = {"open": (make, 2), "work": (work, 2), "check": (check, 1)}
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if name not in commands or len(arguments) != commands[name][1]:
        sys.exit(__doc__)
    commands[name][0](*arguments)


if __name__ == "__main__":
    main()
