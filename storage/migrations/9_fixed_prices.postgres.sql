-- What was paid for at a price can be checked for ever.

create function refuse_money_change() returns trigger language plpgsql as $$
begin
    raise exception 'a price list or a signing key never changes';
end;
$$;

create trigger price_lists_never_change before update or delete on price_lists
for each row execute function refuse_money_change();

create trigger price_lists_never_go before truncate on price_lists
for each statement execute function refuse_money_change();

create trigger signing_keys_never_change before update or delete on signing_keys
for each row execute function refuse_money_change();

create trigger signing_keys_never_go before truncate on signing_keys
for each statement execute function refuse_money_change();
