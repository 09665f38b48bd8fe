-- Workers that offer themselves to every gateway. A worker is one process: one that is started again is another row.
create table workers (
    id text primary key,
    url text not null,
    token text not null,
    build text not null,
    state text not null check (state in ('ready', 'draining', 'spent', 'ended')),
    alive_until bigint not null,
    project text,
    owner text,
    leased_until bigint,
    free_since bigint not null,
    ending text
);
create index workers_url on workers (url);
create index workers_owner on workers (owner);
