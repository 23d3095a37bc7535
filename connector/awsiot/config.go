package awsiot

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"

	"sluice"
)

// config is the connector's part of a configuration.
type config struct {
	UplinkTopicPattern   string
	DownlinkTopicPattern string
	DeviceType           string
	Region               string
	AccountPrefix        string
	AccessKeyID          string
	SecretAccessKey      string
	SessionToken         string
	Credentials          string
	RoleARN              string
	ExternalID           string
	Protocol             string
	Port                 int
	Proxy                string
	CertificateID        string
	Certificate          string
	PrivateKey           string
	ClientIDPrefix       string
	PoolSize             int
	PoolMin              int
	DownlinkSessions     int
	PresenceTopic        string
	UplinkQoS            int
	ProvisioningTimeout  string
	ThingNamePattern     string
	ThingAttributes      map[string]string
	ThingTagAttribute    string
	ThingGroups          []string
	BillingGroup         string
	ThingCheckInterval   string
	DataEndpoint         string
	WebSocketEndpoint    string
	PublishEndpoint      string
	ControlEndpoint      string
	STSEndpoint          string
	CACertificate        string
	Shadow               shadowConfig

	// Common properties: whether they matter depends on ours.
	CreateDevices   bool
	DownlinkEnabled bool
	DownlinkReports string
	SendMetadata    bool

	given   map[string]bool // properties that are there and of the right type
	missing []string        // properties that must be there and are not
}

// required are the properties without which nothing can be opened, whatever
// the protocol.
const required = "uplinkTopicPattern region accountPrefix"

// maxPool is how many sessions a pool may have.
const maxPool = 100

// readConfig reads a configuration. Properties that are missing or of a wrong
// type, which is the schema's to say, have their defaults.
func readConfig(raw json.RawMessage) config {
	c := config{
		ClientIDPrefix: defaultPrefix, PoolSize: 10, PoolMin: 2, DownlinkSessions: 1, UplinkQoS: 1, ProvisioningTimeout: "30s",
		CreateDevices: true, DownlinkEnabled: true, DownlinkReports: "all", Protocol: protocolSSL,
		ThingNamePattern: defaultNamePattern, ThingCheckInterval: "24h", given: map[string]bool{},
	}
	var shadow json.RawMessage
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return c
	}
	for name := range strings.FieldsSeq(required) {
		if v, ok := m[name]; !ok || string(v) == "null" {
			c.missing = append(c.missing, name)
		}
	}
	for name, to := range map[string]any{
		"uplinkTopicPattern":   &c.UplinkTopicPattern,
		"downlinkTopicPattern": &c.DownlinkTopicPattern,
		"deviceType":           &c.DeviceType,
		"region":               &c.Region,
		"accountPrefix":        &c.AccountPrefix,
		"accessKeyId":          &c.AccessKeyID,
		"secretAccessKey":      &c.SecretAccessKey,
		"sessionToken":         &c.SessionToken,
		"credentials":          &c.Credentials,
		"roleArn":              &c.RoleARN,
		"externalId":           &c.ExternalID,
		"protocol":             &c.Protocol,
		"port":                 &c.Port,
		"proxy":                &c.Proxy,
		"webSocketEndpoint":    &c.WebSocketEndpoint,
		"publishEndpoint":      &c.PublishEndpoint,
		"stsEndpoint":          &c.STSEndpoint,
		"certificateId":        &c.CertificateID,
		"certificate":          &c.Certificate,
		"privateKey":           &c.PrivateKey,
		"clientIdPrefix":       &c.ClientIDPrefix,
		"poolSize":             &c.PoolSize,
		"poolMin":              &c.PoolMin,
		"downlinkSessions":     &c.DownlinkSessions,
		"presenceTopic":        &c.PresenceTopic,
		"uplinkQos":            &c.UplinkQoS,
		"provisioningTimeout":  &c.ProvisioningTimeout,
		"thingNamePattern":     &c.ThingNamePattern,
		"thingAttributes":      &c.ThingAttributes,
		"thingTagAttribute":    &c.ThingTagAttribute,
		"thingGroups":          &c.ThingGroups,
		"billingGroup":         &c.BillingGroup,
		"thingCheckInterval":   &c.ThingCheckInterval,
		"dataEndpoint":         &c.DataEndpoint,
		"controlEndpoint":      &c.ControlEndpoint,
		"caCertificate":        &c.CACertificate,
		"createDevices":        &c.CreateDevices,
		"downlinkEnabled":      &c.DownlinkEnabled,
		"downlinkReports":      &c.DownlinkReports,
		"sendMetadata":         &c.SendMetadata,
		"shadow":               &shadow,
	} {
		v, ok := m[name]
		if ok && string(v) != "null" && json.Unmarshal(v, to) == nil {
			c.given[name] = true
		}
	}
	for _, s := range []*string{
		&c.Region, &c.AccountPrefix, &c.AccessKeyID, &c.SecretAccessKey, &c.SessionToken, &c.RoleARN, &c.ExternalID, &c.Proxy,
		&c.CertificateID, &c.DeviceType, &c.DataEndpoint, &c.WebSocketEndpoint, &c.PublishEndpoint, &c.ControlEndpoint, &c.STSEndpoint, &c.BillingGroup,
	} {
		*s = strings.TrimSpace(*s) // pasted values often end in a line break
	}
	if c.Protocol == protocolSSL {
		for _, name := range []string{"certificate", "privateKey"} {
			if v, ok := m[name]; !ok || string(v) == "null" {
				c.missing = append(c.missing, name)
			}
		}
	}
	c.Shadow = readShadow(shadow)
	return c
}

// registers reports whether the registry of things is used at all.
func (c *config) registers() bool { return c.signs() }

// findings collects what is wrong.
type findings struct {
	list []sluice.Problem
}

func (f *findings) add(path, format string, args ...any) {
	f.list = append(f.list, sluice.Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

// Check finds all that is wrong or odd in a configuration and that its schema
// cannot say. No secret is in what it says.
func (c *Connector) Check(configuration json.RawMessage) (warnings, problems []sluice.Problem) {
	cfg := readConfig(configuration)
	var warn, bad findings
	cfg.checkTopics(&bad)
	cfg.checkEndpoints(&warn, &bad)
	cfg.checkProtocol(&bad)
	cfg.checkCertificate(c.o.Clock(), &warn, &bad)
	cfg.checkCredentials(&warn, &bad)
	cfg.checkRegistry(&warn, &bad)
	cfg.checkThings(&bad)
	cfg.checkSessions(&warn, &bad)
	cfg.checkShadow(&warn, &bad)
	for _, name := range cfg.missing { // as secrets are, once their key is lost
		bad.add(name, "%s", missingText(name))
	}
	return warn.list, bad.list
}

func (c *config) checkSessions(warn, bad *findings) {
	if !isPrefix(c.ClientIDPrefix) {
		bad.add("clientIdPrefix", "%q cannot begin a client id: use up to 64 letters, digits and : _ . -, so that a policy can name them.", c.ClientIDPrefix)
	}
	if c.given["poolMin"] && c.PoolMin > c.PoolSize {
		warn.add("poolMin", "It is more than poolSize, %d, which counts.", c.PoolSize)
	}
	if c.DownlinkSessions > c.PoolSize {
		warn.add("downlinkSessions", "It is more than poolSize, %d, which counts.", c.PoolSize)
	}
}

func (c *config) checkTopics(bad *findings) {
	check := func(path, text string, publish bool) {
		_, problems := compileTopic(text, publish)
		for _, p := range problems {
			bad.add(path, "%s", p)
		}
	}
	if c.given["uplinkTopicPattern"] {
		check("uplinkTopicPattern", c.UplinkTopicPattern, true)
	}
	if c.DownlinkTopicPattern != "" {
		check("downlinkTopicPattern", c.DownlinkTopicPattern, false)
	}
	switch t := c.PresenceTopic; {
	case t == "":
	case strings.HasPrefix(t, "$"):
		bad.add("presenceTopic", "AWS keeps no message on a topic that starts with $.")
	case strings.ContainsAny(t, "{}"):
		bad.add("presenceTopic", "It is one topic, of the connection; it cannot hold expressions.")
	default:
		check("presenceTopic", t, true)
	}
}

func (c *config) checkEndpoints(warn, bad *findings) {
	region := c.given["region"]
	if region && !isRegion(c.Region) {
		bad.add("region", "%q is not a region of AWS; a region looks like eu-central-1.", c.Region)
		region = false
	}
	if c.given["accountPrefix"] {
		c.checkAccountPrefix(region, warn, bad)
	}
	if c.DataEndpoint != "" {
		host, _, _ := net.SplitHostPort(c.DataEndpoint)
		if wrong := checkHostPort(c.DataEndpoint); wrong != "" {
			bad.add("dataEndpoint", "%q is not an endpoint: %s.", c.DataEndpoint, wrong)
		} else if region && isElsewhere(host, c.Region) {
			warn.add("dataEndpoint", "The host name %s is not in the region %s.", host, c.Region)
		}
	}
	for _, api := range [][2]string{{"controlEndpoint", c.ControlEndpoint}, {"stsEndpoint", c.STSEndpoint}} {
		if wrong := checkURL(api[1]); api[1] != "" && wrong != "" {
			bad.add(api[0], "This is not the address of an API: %s.", wrong)
		}
	}
	for _, endpoint := range [][2]string{{"webSocketEndpoint", c.WebSocketEndpoint}, {"publishEndpoint", c.PublishEndpoint}} {
		if wrong := checkHostPort(endpoint[1]); endpoint[1] != "" && wrong != "" {
			bad.add(endpoint[0], "%q is not an endpoint: %s.", endpoint[1], wrong)
		}
	}
	if c.CACertificate != "" {
		if _, err := readPool(c.CACertificate); err != nil {
			bad.add("caCertificate", "The CA certificate cannot be read: %v.", err)
		}
	}
}

func (c *config) checkAccountPrefix(region bool, warn, bad *findings) {
	switch host := strings.ToLower(c.AccountPrefix); {
	case !isAccountPrefix(c.AccountPrefix):
		bad.add("accountPrefix", "%q is not an account prefix: it is what stands before .iot.<region>.amazonaws.com in the endpoint (AWS IoT console, Settings), such as a2shubactigr-ats.", c.AccountPrefix)
	case c.DataEndpoint != "":
		// It is not used.
	case strings.Contains(host, "."):
		if region && isElsewhere(host, c.Region) {
			warn.add("accountPrefix", "The host name %s is not in the region %s.", host, c.Region)
		}
	case !strings.HasSuffix(host, "-ats") && c.Region != "cn-north-1":
		warn.add("accountPrefix", "%q does not end in -ats. Endpoints without it use certificates that are not trusted any more; use %s-ats.", c.AccountPrefix, c.AccountPrefix)
	}
}

func (c *config) checkCertificate(now time.Time, warn, bad *findings) {
	c.checkCertificateID(warn)
	if !c.certified() {
		return // they are kept for the day when the protocol is SSL again
	}
	chain, certErr := readCertificates(c.Certificate)
	key, keyErr := readPrivateKey(c.PrivateKey)
	if c.given["certificate"] && certErr != nil {
		bad.add("certificate", "The certificate cannot be read: %v.", certErr)
	}
	if c.given["privateKey"] && keyErr != nil {
		bad.add("privateKey", "The private key cannot be read: %v.", keyErr)
	}
	if certErr == nil {
		own := chain[0]
		switch {
		case now.After(own.NotAfter):
			bad.add("certificate", "The certificate expired on %s.", own.NotAfter.UTC().Format(time.RFC3339))
		case now.Before(own.NotBefore):
			bad.add("certificate", "The certificate is not valid before %s.", own.NotBefore.UTC().Format(time.RFC3339))
		case now.Add(30 * 24 * time.Hour).After(own.NotAfter):
			warn.add("certificate", "The certificate expires on %s.", own.NotAfter.UTC().Format(time.RFC3339))
		}
		if keyErr == nil && !belongs(key, own) {
			bad.add("privateKey", "The private key does not belong to the certificate.")
		}
	}
}

func (c *config) checkCertificateID(warn *findings) {
	if c.CertificateID == "" {
		return
	}
	arn, ok := parseCertificateARN(c.CertificateID)
	switch {
	case !ok:
		warn.add("certificateId", "%q is not the ARN of a certificate (arn:%s:iot:<region>:<account>:cert/<64 hexadecimal digits>): it will not be attached to things.", c.CertificateID, partition(c.Region))
	case arn.region != c.Region:
		warn.add("certificateId", "The certificate is of the region %s, the connection of %s.", arn.region, c.Region)
	}
}

func (c *config) checkRegistry(warn, bad *findings) {
	// Source of the form: AWS IoT API reference, CreateThing, thingTypeName.
	if c.DeviceType != "" && !isThingName(c.DeviceType) {
		bad.add("deviceType", "%q is not the name of a thing type: letters, digits, ':', '_' and '-', at most 128.", c.DeviceType)
	}
	if d, err := time.ParseDuration(c.ProvisioningTimeout); err != nil || d < 0 || d > time.Hour {
		bad.add("provisioningTimeout", "%q is not a duration from 0s to 1h; write 30s or 2m.", c.ProvisioningTimeout)
	}
	switch {
	case !c.CreateDevices:
	case !c.registers():
		warn.add("createDevices", "No things are made, because no access key is given.")
	default:
		if c.DeviceType == "" {
			warn.add("deviceType", "No thing type is given: things are made without a type, and AWS lets a thing without a type have only three attributes.")
		}
		if c.CertificateID == "" {
			warn.add("certificateId", "No certificate ARN is given: things are made without a certificate attached.")
		}
	}
}
