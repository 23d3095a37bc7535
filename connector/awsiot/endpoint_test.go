package awsiot

import "testing"

func TestDataHost(t *testing.T) {
	for _, tc := range []struct{ prefix, region, want string }{
		{"a2shubactigr-ats", "eu-central-1", "a2shubactigr-ats.iot.eu-central-1.amazonaws.com"},
		{"A2SHUBACTIGR-ats", "us-east-1", "a2shubactigr-ats.iot.us-east-1.amazonaws.com"},
		{"abc-ats", "cn-north-1", "abc.ats.iot.cn-north-1.amazonaws.com.cn"},
		{"abc", "cn-north-1", "abc.ats.iot.cn-north-1.amazonaws.com.cn"},
		{"abc.ats.iot.cn-north-1.amazonaws.com.cn", "cn-north-1", "abc.ats.iot.cn-north-1.amazonaws.com.cn"},
		{"abc-ats", "cn-northwest-1", "abc-ats.iot.cn-northwest-1.amazonaws.com.cn"},
		{"abc-ats", "us-gov-west-1", "abc-ats.iot.us-gov-west-1.amazonaws.com"},
		{"iot.example.org", "eu-central-1", "iot.example.org"},
	} {
		if got := dataHost(tc.prefix, tc.region); got != tc.want {
			t.Errorf("%s in %s: %s, want %s", tc.prefix, tc.region, got, tc.want)
		}
	}
}

func TestDataAddress(t *testing.T) {
	c := config{AccountPrefix: "a-ats", Region: "eu-west-1"}
	if host, port := c.dataAddress(); host != "a-ats.iot.eu-west-1.amazonaws.com" || port != "8883" {
		t.Errorf("%s %s", host, port)
	}
	c.DataEndpoint = "[::1]:1234"
	if host, port := c.dataAddress(); host != "::1" || port != "1234" {
		t.Errorf("%s %s", host, port)
	}
	if got := c.controlAddress(); got != "https://iot.eu-west-1.amazonaws.com" {
		t.Error(got)
	}
}
