-- Who may enter a project. Nobody is ever removed, so that a name in a bill or in the audit log means one person for ever.
create table principals (
    project text not null references projects (id),
    name text not null,
    kind text not null check (kind in ('user', 'service_account')),
    created_at bigint not null,
    created_by text not null,
    disabled_at bigint,
    max_cost text,
    max_bytes bigint,
    primary key (project, name)
);

-- A dataset of '' is the whole project.
create table grants (
    project text not null,
    principal text not null,
    role text not null,
    dataset text not null default '',
    granted_at bigint not null,
    granted_by text not null,
    primary key (project, principal, role, dataset),
    foreign key (project, principal) references principals (project, name)
);

-- A key without a principal is the project's own. Its scope is what it may do at most, as a JSON list of roles.
alter table api_keys add column principal text;
alter table api_keys add column scope text;
alter table api_keys add column created_by text;
alter table api_keys add column expires_at bigint;
alter table api_keys add column revoked_at bigint;
-- The id of a key is half of its hash.
create unique index api_keys_id on api_keys (substr(hash, 1, 32));

-- What a query may cost, and process, if it does not say.
alter table projects add column max_cost text;
alter table projects add column max_bytes bigint;

create table operator_keys (
    hash text primary key,
    name text not null unique,
    created_at bigint not null,
    revoked_at bigint
);

-- Who asked, with which key, from where.
alter table queries add column asker text;
alter table queries add column asker_key text;
alter table queries add column asker_token text;
alter table queries add column asker_address text;
create index queries_asker on queries (project, asker, id);

-- Who did what. Ids are ordered by time.
create table audit (
    id text primary key,
    project text not null references projects (id),
    at bigint not null,
    who text not null,
    with_key text,
    with_token text,
    address text,
    act text not null,
    object text not null,
    allowed bigint not null,
    query text
);
create index audit_project on audit (project, id);
