CREATE TABLE {table} (
  id             varchar(255)  PRIMARY KEY,
  status         varchar(20)   NOT NULL,
  record_key     varchar(255)  NOT NULL,
  record_type    varchar(255)  NOT NULL,
  payload        text          NOT NULL,
  context        text,
  created_at     timestamptz   NOT NULL,
  next_retry_at  timestamptz   NOT NULL,
  completed_at   timestamptz,
  failure_count  int           NOT NULL,
  failure_reason varchar(1000),
  partition_no   integer       NOT NULL,
  handler_id     varchar(1000) NOT NULL
);
