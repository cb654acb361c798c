"""The node's side without a disk: what to send next, what an answer means, how a boot ends, how it stays in step."""
