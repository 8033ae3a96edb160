CREATE SCHEMA IF NOT EXISTS cap;
CREATE TABLE {table} (
  "Id"         bigint       PRIMARY KEY,
  "Version"    varchar(20)  NOT NULL,
  "Name"       varchar(200) NOT NULL,
  "Content"    text,
  "Retries"    int          NOT NULL,
  "Added"      timestamp    NOT NULL,
  "ExpiresAt"  timestamp,
  "StatusName" varchar(50)  NOT NULL
);
