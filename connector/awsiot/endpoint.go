package awsiot

import (
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// The ports, and what is asked for by ALPN where several protocols share one.
// Source: AWS IoT Developer Guide, "Device communication protocols", "Protocols,
// port mappings, and authentication".
const (
	mqttPort  = "8883" // MQTT with a client certificate
	httpsPort = "8443" // HTTPS with a client certificate
	anyPort   = "443"  // both, by ALPN; without it, HTTP that is signed

	alpnMQTT = "x-amzn-mqtt-ca"
	alpnHTTP = "x-amzn-http-ca"
)

// dataAddress is the host and port of the MQTT broker.
func (c *config) dataAddress() (host, port string) {
	given := c.DataEndpoint
	if c.webSocket() && c.WebSocketEndpoint != "" {
		given = c.WebSocketEndpoint
	}
	if given != "" {
		host, port, _ = net.SplitHostPort(given)
		return host, port
	}
	port = mqttPort
	if c.webSocket() || c.Port == 443 {
		port = anyPort
	}
	return dataHost(c.AccountPrefix, c.Region), port
}

// mqttALPN is what the TLS handshake of MQTT asks for; nil at a port that is
// for MQTT alone.
func (c *config) mqttALPN() []string {
	if _, port := c.dataAddress(); !c.webSocket() && (c.Port == 443 || c.Port == 0 && port == anyPort) {
		return []string{alpnMQTT}
	}
	return nil
}

// publishAddress is the host and port of publishing over HTTPS.
func (c *config) publishAddress() (host, port string) {
	if c.PublishEndpoint != "" {
		host, port, _ = net.SplitHostPort(c.PublishEndpoint)
		return host, port
	}
	host, _ = c.dataAddress()
	if !c.certified() || c.Port == 443 {
		return host, anyPort
	}
	return host, httpsPort
}

// publishALPN is what the TLS handshake of publishing asks for. HTTP/1.1 alone:
// AWS has no HTTP/2 there.
func (c *config) publishALPN() []string {
	if _, port := c.publishAddress(); c.certified() && (c.Port == 443 || c.Port == 0 && port == anyPort) {
		return []string{alpnHTTP}
	}
	return nil
}

// dataHost makes the host name of the account's endpoint. The prefix may be
// the whole name already. Beijing writes "<prefix>.ats" where all others, also
// Ningxia, write "<prefix>-ats".
// Source: AWS IoT endpoints and quotas; aws-sdk-go-v2, endpoints of
// iotdataplane ("data.ats.iot.cn-north-1.amazonaws.com.cn").
func dataHost(prefix, region string) string {
	prefix = strings.ToLower(strings.TrimSuffix(prefix, "."))
	if strings.Contains(prefix, ".") {
		return prefix
	}
	if region == "cn-north-1" {
		prefix = strings.TrimSuffix(prefix, "-ats") + ".ats"
	}
	return prefix + ".iot." + region + "." + domain(region)
}

// controlAddress is where the registry's API is, for people and for telling
// one registry from another.
func (c *config) controlAddress() string {
	if c.ControlEndpoint != "" {
		return c.ControlEndpoint
	}
	return "https://iot." + c.Region + "." + domain(c.Region)
}

// domain is the DNS suffix of a region's partition.
func domain(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "amazonaws.com.cn"
	case strings.HasPrefix(region, "eusc-"):
		return "amazonaws.eu"
	default:
		return "amazonaws.com"
	}
}

// partition is the partition of a region, as ARNs name it.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	case strings.HasPrefix(region, "eusc-"):
		return "aws-eusc"
	default:
		return "aws"
	}
}

// isRegion reports whether a text has the form of a region. It is no list:
// AWS opens new ones.
func isRegion(s string) bool {
	return len(s) <= 32 && regexp.MustCompile(`^[a-z]{2,5}(-[a-z]+){1,3}-[0-9]{1,2}$`).MatchString(s)
}

// isAccountPrefix reports whether a text can be the first label of an
// endpoint, or a whole host name.
func isAccountPrefix(s string) bool {
	return len(s) <= 253 && regexp.MustCompile(`^(?i)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\.?$`).MatchString(s)
}

// isElsewhere reports whether a host is one of AWS's in another region.
func isElsewhere(host, region string) bool {
	host = strings.ToLower(host)
	return strings.Contains(host, ".amazonaws.") && !strings.Contains(host, "."+region+".")
}

// certificateARN is the ARN of a certificate in its parts.
type certificateARN struct {
	region, account string
}

func parseCertificateARN(s string) (certificateARN, bool) {
	m := regexp.MustCompile(`^arn:aws[a-z-]*:iot:([a-z0-9-]+):([0-9]{12}):cert/[0-9a-fA-F]{64}$`).FindStringSubmatch(s)
	if m == nil {
		return certificateARN{}, false
	}
	return certificateARN{region: m[1], account: m[2]}, true
}

// checkHostPort returns what is wrong with a host:port, "" for nothing.
func checkHostPort(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return "it must be host:port, such as localhost:8883"
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "its port must be a number from 1 to 65535"
	}
	return ""
}

// checkProxy returns what is wrong with the URL of a proxy, "" for nothing. It
// never holds any of the URL, which may have a password in it.
func checkProxy(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "socks5" && u.Scheme != "socks5h":
		return "it must be a URL such as http://user:password@proxy.example.com:3128 or socks5://proxy.example.com:1080"
	case u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return "nothing may follow host and port"
	}
	return ""
}

// checkURL returns what is wrong with the URL of an API, "" for nothing.
func checkURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "it must be a URL such as https://localhost:8443"
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "it must be a URL without user, query and fragment"
	}
	return ""
}
