package awsiot

import (
	"fmt"
	"strings"
)

// What the certificate needs for commands, presence and shadows.

// maxIoTPolicy is AWS's limit of the characters of a policy, white space apart.
// Source: AWS IoT Core endpoints and quotas, "Maximum policy document size".
const maxIoTPolicy = 2048

// sizeNote is what to do with a policy that AWS would not take.
func sizeNote(characters int) string {
	return fmt.Sprintf("The IoT policy has %d characters, and AWS takes %d: make two of its statements, and attach both to the certificate.", characters, maxIoTPolicy)
}

func (a *advisor) allow(sid, action string, resources ...string) statement {
	s := statement{Sid: sid, Effect: "Allow", Action: []string{action}}
	for _, r := range resources {
		s.Resource = append(s.Resource, a.arn(r))
	}
	return s
}

// connectAttributes are what a CONNECT of ours may ask for.
func (a *advisor) connectAttributes() []string {
	var list []string
	if a.downlink != nil || a.desires() {
		list = append(list, "PersistentConnect")
	}
	if a.cfg.PresenceTopic != "" {
		list = append(list, "LastWill")
	}
	return list
}

// desires reports whether commands are taken from shadows.
func (a *advisor) desires() bool { return a.cfg.Shadow.Enabled && a.cfg.Shadow.Desired }

// commandFilters are what is subscribed to for commands. Where they are shared,
// an examination has a share of its own, whose name begins alike.
func (a *advisor) commandFilters() []string {
	filter := escapePolicy(a.downlink.Filter())
	if min(a.cfg.DownlinkSessions, a.cfg.PoolSize) < 2 {
		return []string{"topicfilter/" + filter}
	}
	return []string{"topicfilter/" + shareOf(strings.TrimSuffix(a.group, "*")+"*", filter)}
}

// presenceStatements are for the retained message and the last will.
func (a *advisor) presenceStatements() []statement {
	if a.cfg.PresenceTopic == "" {
		return nil
	}
	topics := []string{"topic/" + escapePolicy(a.cfg.PresenceTopic)}
	if own := presenceTestTopic(a.cfg.PresenceTopic); a.wish.Examine && own != "" {
		topics = append(topics, "topic/"+escapePolicy(own))
	}
	s := a.allow("Presence", "iot:Publish", topics...)
	s.Action = append(s.Action, "iot:RetainPublish")
	return []statement{s}
}

// shadowStatements are for the requests of shadows and their answers, of any
// thing: which there are is known only as they come. get/* are its two answers,
// in fewer characters.
func (a *advisor) shadowStatements() []statement {
	c := a.cfg.Shadow
	if !c.Enabled {
		return nil
	}
	rest := a.cfg.Protocol == protocolHTTPS
	// A shadow's name may have a $, which a policy would take for a variable.
	topic := func(kind, thing, operation string) string {
		head, tail, _ := strings.Cut(c.topic("\x00", operation), "\x00")
		return kind + head + thing + strings.ReplaceAll(tail, "$", "${$}")
	}
	requests, answers := []string{"update"}, []string{"update/rejected"}
	switch {
	case c.Desired && rest:
		answers = []string{"update/delta"}
	case c.Desired:
		requests = append(requests, "get")
		answers = append(answers, "get/*", "update/delta")
	case rest:
		answers = nil
	}
	var publish, subscribe, receive []string
	for _, r := range requests {
		publish = append(publish, topic("topic/", "*", r))
	}
	for _, r := range answers {
		subscribe = append(subscribe, topic("topicfilter/", "+", r))
		receive = append(receive, topic("topic/", "*", r))
	}
	list := []statement{a.allow("PublishShadows", "iot:Publish", publish...)}
	if rest {
		list = []statement{a.restStatement()}
	}
	if len(answers) == 0 {
		return list
	}
	return append(list, a.allow("SubscribeShadows", "iot:Subscribe", subscribe...), a.allow("ReceiveShadows", "iot:Receive", receive...))
}

// restStatement is for the requests of shadows by the REST API.
// Source of the resources: AWS IoT Developer Guide, "Device Shadow REST API".
func (a *advisor) restStatement() statement {
	c := a.cfg.Shadow
	s := a.allow("UpdateShadows", "iot:UpdateThingShadow", strings.ReplaceAll(c.resource("*"), "$", "${$}"))
	if c.Desired {
		s.Action = append(s.Action, "iot:GetThingShadow")
	}
	return s
}
