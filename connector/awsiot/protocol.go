package awsiot

import (
	"encoding/json"
	"regexp"
	"slices"

	"sluice"
)

// The protocols, in ThingPark's words; HTTPS is ours.
const (
	protocolSSL   = "SSL"   // MQTT over TLS with a client certificate
	protocolWSS   = "WSS"   // MQTT over WebSocket, signed with access keys
	protocolHTTPS = "HTTPS" // uplinks over HTTPS, commands over MQTT
)

// certified reports whether the client certificate is what tells AWS who we
// are. Under HTTPS it is, where there is one.
func (c *config) certified() bool {
	switch c.Protocol {
	case protocolWSS:
		return false
	case protocolHTTPS:
		return c.Certificate != "" || c.PrivateKey != ""
	default:
		return true
	}
}

// webSocket reports whether MQTT goes over WebSocket: where no certificate is
// used.
func (c *config) webSocket() bool { return !c.certified() }

// signs reports whether there are credentials of AWS.
func (c *config) signs() bool {
	return c.Credentials == credentialsDefault || c.AccessKeyID != "" && c.SecretAccessKey != ""
}

func (c *config) checkProtocol(bad *findings) {
	if c.webSocket() && !c.signs() && (c.AccessKeyID == "") == (c.SecretAccessKey == "") { // else the other half is missing, and told
		with := "accessKeyId and secretAccessKey, or credentials: default"
		if c.Protocol == protocolHTTPS {
			with = "certificate and privateKey, or " + with
		}
		bad.add("accessKeyId", "The protocol %s needs to know who we are: give %s.", c.Protocol, with)
	}
	if c.Protocol == protocolHTTPS && c.certified() {
		if c.Certificate == "" {
			bad.add("certificate", "It is missing, but the private key is given.")
		}
		if c.PrivateKey == "" {
			bad.add("privateKey", "It is missing, but the certificate is given.")
		}
	}
	ports := map[string][]int{protocolSSL: {443, 8883}, protocolWSS: {443}, protocolHTTPS: {443, 8443}}[c.Protocol]
	if c.given["port"] && ports != nil && !slices.Contains(ports, c.Port) {
		bad.add("port", "The protocol %s is not on port %d; AWS has it on %v. For another port, write dataEndpoint.", c.Protocol, c.Port, ports)
	}
	if c.Proxy != "" {
		if wrong := checkProxy(c.Proxy); wrong != "" {
			bad.add("proxy", "This is not the address of a proxy: %s.", wrong)
		}
	}
}

func (c *config) checkCredentials(warn, bad *findings) {
	static := c.AccessKeyID != "" || c.SecretAccessKey != ""
	switch {
	case c.Credentials == credentialsDefault && static:
		warn.add("credentials", "The access key is not used, because the credentials are those of the default chain.")
	case c.AccessKeyID != "" && c.SecretAccessKey == "":
		bad.add("secretAccessKey", "It is missing, but the access key id is given: give both, or neither to register nothing.")
	case c.SecretAccessKey != "" && c.AccessKeyID == "":
		bad.add("accessKeyId", "It is missing, but the secret access key is given: give both, or neither to register nothing.")
	}
	if c.SessionToken != "" && c.Credentials != credentialsDefault {
		if !static {
			bad.add("sessionToken", "A session token belongs to an access key: give accessKeyId and secretAccessKey too.")
		} else {
			warn.add("sessionToken", "Keys with a session token end within hours, and nothing can renew them. Use roleArn, or keys of a user.")
		}
	}
	// Source of the form: AWS STS API reference, AssumeRole, RoleArn and ExternalId.
	if c.RoleARN != "" {
		if !regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\x21-\x7e]{1,512}$`).MatchString(c.RoleARN) {
			bad.add("roleArn", "%q is not the ARN of a role (arn:%s:iam::<account>:role/<name>).", c.RoleARN, partition(c.Region))
		}
		if !static && c.Credentials != credentialsDefault {
			bad.add("roleArn", "Somebody must assume the role: give accessKeyId and secretAccessKey, or credentials: default.")
		}
	}
	switch {
	case c.ExternalID == "":
	case c.RoleARN == "":
		bad.add("externalId", "An external id is for a role: give roleArn too.")
	case len(c.ExternalID) < 2 || len(c.ExternalID) > 1224 || !regexp.MustCompile(`^[\w+=,.@:/-]+$`).MatchString(c.ExternalID):
		bad.add("externalId", "An external id has 2 to 1224 letters, digits and + = , . @ : / - _.")
	}
}

// Keeps names the properties that a changed configuration keeps from the stored
// one where it leaves them out. Source: ThingPark X IoT Flow documentation,
// "Changing the Protocol of the Amazon AWS Connection after Creation": from SSL
// to WSS, certificate id, certificate and private key are hidden but kept, and
// recovered when the protocol is SSL again. An empty text does away with them.
func (c *Connector) Keeps(stored, changed json.RawMessage) []string {
	was, is := readConfig(stored), readConfig(changed)
	if was.Protocol == protocolSSL && is.Protocol == protocolSSL {
		return nil // the whole configuration is sent again
	}
	return []string{"certificateId", "certificate", "privateKey"}
}

var _ sluice.Keeper = (*Connector)(nil)
