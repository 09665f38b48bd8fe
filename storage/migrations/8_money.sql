-- What a query costs, as JSON.
alter table queries add column cost text;

-- The text that its gateway signed about a query, beside the line that has its hash; and by which key.
alter table ledger add column receipt text;
alter table ledger add column signature text;
alter table ledger add column signed_by text;

-- A price list never changes once it is in force: `entry` is its text.
create table price_lists (
    version text primary key,
    valid_from bigint not null,
    entry text not null
);

-- The public halves of the keys that receipts were ever signed with.
create table signing_keys (
    id text primary key,
    public_key text not null,
    created_at bigint not null
);
