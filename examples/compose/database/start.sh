#!/bin/sh
# Makes the database when there is none on its disk, and becomes its server. Its log of what is to be
# written is on another disk, as is usual: where that is full, the server ends.
set -e
if [ ! -d /data/made ]; then
  rm -rf /data/making /log/wal
  initdb --pgdata /data/making --waldir /log/wal --username postgres --auth trust --encoding UTF8 --locale C \
    --wal-segsize 1 --no-sync --no-instructions
  echo "host all all samenet trust" >>/data/making/pg_hba.conf
  postgres --single -j -D /data/making postgres </schema.sql >/dev/null
  mv /data/making /data/made
fi
# A worker of the server whose client has hung up does not wait on for a lock. Where there may be
# replication, each checkpoint writes a file of its own beside the data: the server ends when it has
# no room for that.
exec postgres -D /data/made -c 'listen_addresses=*' -c unix_socket_directories=/tmp \
  -c shared_buffers=8MB -c max_connections=60 -c max_replication_slots=0 \
  -c min_wal_size=2MB -c max_wal_size=8MB -c jit=off \
  -c client_connection_check_interval=1s -c log_checkpoints=off -c checkpoint_warning=0 \
  -c log_min_error_statement=panic
