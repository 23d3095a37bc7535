package awsiot

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
)

// defaultPrefix begins our client ids, where the configuration says nothing
// else. A policy can allow client/sluice-*.
const defaultPrefix = "sluice"

// maxClientID is AWS's limit of a client id, in bytes. Ours stay far below.
// Source: AWS IoT Core endpoints and quotas, "Client ID size".
const maxClientID = 128

// isPrefix reports whether client ids may begin so: what a policy can name and
// a topic can hold.
func isPrefix(s string) bool { return regexp.MustCompile(`^[a-zA-Z0-9:_.-]{1,64}$`).MatchString(s) }

// name is what all client ids of a connection begin with. It is unique among
// all clients of the account as long as no two installations share a data
// directory, and the same after a restart.
func (d *dialer) name() string {
	return d.cfg.ClientIDPrefix + "-" + d.spec.Instance + "-" + d.spec.Connection.ID
}

// clientPrefix begins all client ids of a connection, so that one line of a
// policy allows them all; without an installation those of any.
func clientPrefix(prefix, instance, connection string) string {
	if instance == "" || connection == "" {
		return prefix + "-"
	}
	return prefix + "-" + instance + "-" + connection + "-"
}

// clientID names the session of a lane. It is one of two that alternate, so
// that a changed configuration opens before the one before it closes:
// <prefix>-<instance>-<connection>-<lane>-<generation>.
func (d *dialer) clientID(lane int) string {
	return limited(fmt.Sprintf("%s-%d-%d", d.name(), lane, d.spec.Generation))
}

// inboxID is the client id of a session in which commands come. It depends on
// nothing but the connection and the topics, and on the lane where several
// share the commands, so that after a restart, a change of the configuration or
// the loss of a lane the same session goes on with all that it has kept. Other
// topics are another session: what a session is subscribed to outlives the
// configuration that said so.
func (d *dialer) inboxID(lane int) string {
	id := d.name() + "-commands-" + digits(d.filter())
	if d.Shares() > 1 {
		id += fmt.Sprintf("-%d", lane)
	}
	return limited(id)
}

// presenceID is the client id of the session that holds the last will.
func (d *dialer) presenceID() string {
	return limited(d.name() + "-presence-" + digits(d.cfg.PresenceTopic))
}

// seatKey tells one session that this process takes turns with from another. It
// is the same at all ports of an endpoint, since the session is.
func (d *dialer) seatKey(id string) string {
	host, _ := d.cfg.dataAddress()
	return host + "/" + id
}

// filter is what is subscribed to: the commands, or a share of them.
// Source: AWS IoT Developer Guide, "Shared subscriptions".
func (d *dialer) filter() string {
	if d.Shares() > 1 {
		return shareOf(d.group(), d.downlink.Filter())
	}
	return d.downlink.Filter()
}

// group is the name of those who share the commands.
func (d *dialer) group() string { return d.name() }

// doctorGroup is the name of an examination's share of its own.
func doctorGroup(group string) string { return group + "-doctor" }

func shareOf(group, filter string) string { return "$share/" + group + "/" + filter }

// digits is short for a text.
func digits(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:4])
}

func limited(id string) string { return id[:min(len(id), maxClientID)] }
