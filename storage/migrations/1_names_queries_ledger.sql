-- One text for SQLite and PostgreSQL, so: text and bigint only, JSON as text, instants as microseconds since 1970.

create table projects (
    id text primary key,
    created_at bigint not null
);

-- A key is kept as its hash; the key itself is shown once, to whom it was made for.
create table api_keys (
    hash text primary key,
    project text not null references projects (id),
    name text not null,
    created_at bigint not null,
    unique (project, name)
);

-- `changes` counts changes to the names below a dataset. Adding one to it is how a writer takes the dataset's lock,
-- on both databases, and learns in the same statement whether the dataset is still there.
create table datasets (
    project text not null references projects (id),
    name text not null,
    created_at bigint not null,
    changes bigint not null default 0,
    primary key (project, name)
);

-- Tables and views share one namespace. A dropped table keeps its row for ever, so that its generation, and with it
-- its place in the bucket, is never used again.
create table relations (
    uid text primary key,
    project text not null references projects (id),
    dataset text not null,
    name text not null,
    kind text not null check (kind in ('table', 'view')),
    state text not null check (state in ('creating', 'live', 'deleted', 'purged')),
    created_at bigint not null,
    created_by text,
    deleted_at bigint,
    purged_at bigint,
    generation bigint not null,
    location text not null,
    version bigint not null,
    table_schema text not null,
    view_sql text not null,
    view_default_dataset text,
    view_columns text not null,
    view_depends text not null
);
create unique index relations_live on relations (project, dataset, name) where state = 'live';
create unique index relations_generation on relations (project, dataset, name, generation) where kind = 'table';
create index relations_state on relations (state);

-- A query is live exactly while it has no end.
create table queries (
    id text primary key,
    project text not null references projects (id),
    request_id text,
    fingerprint text not null,
    statement text not null,
    kind text not null,
    labels text not null,
    state text not null check (
        state in ('pending', 'running', 'committing', 'done', 'failed', 'cancelled', 'abandoned', 'lost')
    ),
    created_at bigint not null,
    started_at bigint,
    ended_at bigint,
    owner text not null,
    lease_until bigint not null,
    cancel_requested_at bigint,
    attempts bigint not null,
    usage text not null,
    error text,
    target text,
    results_state text not null default 'none' check (results_state in ('none', 'kept', 'expired', 'removed')),
    results text,
    unique (project, request_id),
    check ((ended_at is null) = (state in ('pending', 'running', 'committing')))
);
create index queries_project on queries (project, id);
create index queries_live on queries (owner, lease_until) where ended_at is null;
create index queries_results on queries (results_state, ended_at);

create table query_labels (
    project text not null,
    name text not null,
    value text not null,
    query text not null references queries (id),
    primary key (project, name, value, query)
);

-- `entry` is the exact text that was hashed. The other columns only find it.
create table ledger (
    project text not null references projects (id),
    seq bigint not null,
    query text not null references queries (id),
    entry text not null,
    prev_hash text not null,
    hash text not null,
    primary key (project, seq),
    unique (project, query)
);

-- The last line of each project's chain. Its row is the lock under which the chain grows.
create table ledger_head (
    project text primary key references projects (id),
    seq bigint not null,
    hash text not null
);
