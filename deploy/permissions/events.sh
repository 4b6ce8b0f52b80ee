# worker: Consumes the shards, with TOPOLOGY=verify. Its console needs what the viewers or operators need whom the configuration names.
# inorder worker
rabbitmqctl set_permissions -p / events-worker '^$' '^events\.store$' '^(events\.shard\.[0-9]+|events\.store)$'
rabbitmqctl set_user_tags events-worker
redis-cli ACL SETUSER events-worker on resetkeys '~inorder:events:*' resetchannels -@all '+client|setname' +evalsha +get +hdel +hget +hgetall +hlen +hmget +hrandfield +hscan +hset +hsetnx +incr +info +pexpire +scan '+script|load' +time
# From Redis 7 on, if the user was given selectors: redis-cli ACL SETUSER events-worker clearselectors

# publisher: Publishes events.
# inorder publish
rabbitmqctl set_permissions -p / events-publisher '^$' '^events$' '^$'
rabbitmqctl set_user_tags events-publisher

# relay: Publishes the events of the event store.
# inorder relay
rabbitmqctl set_permissions -p / events-relay '^$' '^events$' '^$'
rabbitmqctl set_user_tags events-relay
redis-cli ACL SETUSER events-relay on resetkeys '~inorder:{events}:*' resetchannels -@all '+client|setname' +evalsha +hmget +hset +info '+script|load' +time +xrange +xread
# From Redis 7 on, if the user was given selectors: redis-cli ACL SETUSER events-relay clearselectors

# operator: Looks, and corrects: replays and discards dead letters, sets versions, recovers, resumes halted shards.
# inorder dead-letters replay, inorder dead-letters discard, inorder entity import, inorder entity resync, inorder rebuild, inorder recover, inorder shards resume, inorder console
rabbitmqctl set_permissions -p / events-operator '^events\.operator$' '^(events|events\.store)$' '^(events\.dead-letters|events\.store)$'
rabbitmqctl set_user_tags events-operator
redis-cli ACL SETUSER events-operator on resetkeys '~inorder:events:*' '~inorder:{events}:*' resetchannels -@all '+client|setname' +evalsha +get +hdel +hget +hgetall +hkeys +hmget +hscan +hset +hsetnx +info +llen +lrange +pexpire +ping +scan '+script|load' +set +time +xadd +xrange +xrevrange
# From Redis 7 on, if the user was given selectors: redis-cli ACL SETUSER events-operator clearselectors

# reader: Looks, and changes nothing: also a console that has no operators.
# inorder status, inorder dead-letters list, inorder dead-letters show, inorder dead-letters export, inorder entity show, inorder entity list, inorder events list, inorder events verify, inorder audit
rabbitmqctl set_permissions -p / events-reader '^events\.operator$' '^$' '^(events\.dead-letters|events\.store)$'
rabbitmqctl set_user_tags events-reader
redis-cli ACL SETUSER events-reader on resetkeys '~inorder:events:*' '~inorder:{events}:*' resetchannels -@all '+client|setname' +evalsha +get +hget +hgetall +hmget +info +llen +lrange +ping +scan '+script|load' +time +xrange +xrevrange
# From Redis 7 on, if the user was given selectors: redis-cli ACL SETUSER events-reader clearselectors

# topology: Declares exchanges, queues and bindings, and records their number in the store. It may end once they are there.
# inorder topology apply
rabbitmqctl set_permissions -p / events-topology '^(events|events\.dead-letters|events\.dlx|events\.shard\.[0-9]+|events\.store|events\.unrouted)$' '^(events\.dead-letters|events\.dlx|events\.shard\.[0-9]+|events\.store|events\.unrouted)$' '^(events|events\.dlx|events\.shard\.[0-9]+|events\.store|events\.unrouted)$'
rabbitmqctl set_user_tags events-topology
redis-cli ACL SETUSER events-topology on resetkeys '~inorder:events:epoch' '~inorder:events:{inorder:events:epoch}:standing' resetchannels -@all '+client|setname' +evalsha +get +hget +hgetall +hset +info '+script|load'
# From Redis 7 on, if the user was given selectors: redis-cli ACL SETUSER events-topology clearselectors

# doctor: Checks the set-up, with the management API.
# inorder doctor, inorder topology check
rabbitmqctl set_permissions -p / events-doctor '^$' '^$' '^events\.store$'
rabbitmqctl set_user_tags events-doctor monitoring
redis-cli ACL SETUSER events-doctor on resetkeys '~inorder:events:*' resetchannels -@all '+client|setname' +evalsha +get +hgetall +hmget +info +ping +scan '+script|load' +time
# From Redis 7 on, if the user was given selectors: redis-cli ACL SETUSER events-doctor clearselectors

# appender: Appends to the event store, and reads it: a program with a repository or aggregates of its own.
# inorder events append
redis-cli ACL SETUSER events-appender on resetkeys '~inorder:{events}:*' resetchannels -@all '+client|setname' +evalsha +hget +hmget +hset +info +lindex +llen +lrange +rpush '+script|load' +xadd +xrange +xrevrange
# From Redis 7 on, if the user was given selectors: redis-cli ACL SETUSER events-appender clearselectors
