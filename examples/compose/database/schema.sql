create role market login;

create table items (name text primary key, price numeric(10, 2) not null);

create table orders (id text primary key, item text not null, side text not null, placed timestamptz not null, price numeric(10, 2));

create table slips (id text primary key, printed text not null);

alter table slips alter column printed set storage external;

grant select on items to market;

alter table orders owner to market;

alter table slips owner to market;

insert into items values ('tea', 3.50), ('bread', 4.20), ('soap', 2.80);

