-- A line that is wrong is corrected by a later line, never changed.

create function refuse_ledger_change() returns trigger language plpgsql as $$
begin
    raise exception 'the ledger is append-only';
end;
$$;

create trigger ledger_never_changes before update or delete on ledger
for each row execute function refuse_ledger_change();

create trigger ledger_never_shrinks before truncate on ledger
for each statement execute function refuse_ledger_change();
