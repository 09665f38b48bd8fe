-- What was paid for at a price can be checked for ever.

create trigger price_lists_never_change before update on price_lists
begin
    select raise(abort, 'a price list never changes');
end;

create trigger price_lists_never_go before delete on price_lists
begin
    select raise(abort, 'a price list never changes');
end;

create trigger signing_keys_never_change before update on signing_keys
begin
    select raise(abort, 'a signing key never changes');
end;

create trigger signing_keys_never_go before delete on signing_keys
begin
    select raise(abort, 'a signing key never changes');
end;
