-- A line that is wrong is corrected by a later line, never changed.

create trigger ledger_never_changes before update on ledger
begin
    select raise(abort, 'the ledger is append-only');
end;

create trigger ledger_never_shrinks before delete on ledger
begin
    select raise(abort, 'the ledger is append-only');
end;
