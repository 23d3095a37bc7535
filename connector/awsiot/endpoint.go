package awsiot

import (
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// mqttPort is the port of MQTT with client certificates.
// Source: AWS IoT Developer Guide, "Device communication protocols".
const mqttPort = "8883"

// dataEndpoint is the host and port of the MQTT broker.
func (c *config) dataAddress() (host, port string) {
	if c.DataEndpoint != "" {
		host, port, _ = net.SplitHostPort(c.DataEndpoint)
		return host, port
	}
	return dataHost(c.AccountPrefix, c.Region), mqttPort
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
