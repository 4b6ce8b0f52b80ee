-- random, of the relay that has the epoch: a server that lost its tail gives an epoch out twice
ALTER TABLE inorder.relays ADD COLUMN session text;
