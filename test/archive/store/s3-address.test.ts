import { describe, expect, test } from "bun:test";
import { S3Address } from "../../../src/archive/store/s3-address.ts";
import { usageErrorOf } from "../../support/error-of.ts";

describe("an S3 address", () => {
  test("is a virtual host of Amazon's without an endpoint", () => {
    const address = new S3Address("s3://bucket/a/b/", { region: "eu-central-1" }, {});
    expect(address.url).toBe("s3://bucket/a/b");
    expect(address.prefix).toBe("a/b/");
    expect(address.urlOf("a/b/c d+'").href).toBe(
      "https://bucket.s3.eu-central-1.amazonaws.com/a/b/c%20d%2B%27",
    );
    expect(address.urlOf("", { prefix: "a/b" }).href).toBe(
      "https://bucket.s3.eu-central-1.amazonaws.com/?prefix=a%2Fb",
    );
  });

  test("is a path of the endpoint where one is named, and where the bucket has dots", () => {
    const endpoint = "http://127.0.0.1:9000/";
    const address = new S3Address("s3://My_bucket", { endpoint }, {});
    expect(address.urlOf("a/b").href).toBe("http://127.0.0.1:9000/My_bucket/a/b");
    expect(address.urlOf("", { x: "1" }).href).toBe("http://127.0.0.1:9000/My_bucket?x=1");
    expect(new S3Address("s3://a.bucket/", {}, {}).urlOf("k").href).toBe(
      "https://s3.us-east-1.amazonaws.com/a.bucket/k",
    );
    expect(new S3Address("s3://bucket", { region: "cn-north-1" }, {}).urlOf("k").hostname).toBe(
      "bucket.s3.cn-north-1.amazonaws.com.cn",
    );
  });

  test("takes endpoint and region from the settings first, then from the environment", () => {
    const environment = {
      AWS_ENDPOINT_URL: "https://general:1",
      AWS_ENDPOINT_URL_S3: "https://own:2",
      AWS_REGION: "r1",
      AWS_DEFAULT_REGION: "r2",
    };
    const address = new S3Address("s3://bucket", {}, environment);
    expect([address.server, address.region]).toEqual(["own:2", "r1"]);
    const told = new S3Address("s3://bucket", { endpoint: "https://x", region: "y" }, environment);
    expect([told.server, told.region]).toEqual(["x", "y"]);
    const later = new S3Address("s3://bucket", {}, { AWS_REGION: "", AWS_DEFAULT_REGION: "r2" });
    expect(later.region).toBe("r2");
  });

  test.each([
    ["s3://", {}],
    ["s3:///a", {}],
    ["s3://bucket/a//b", {}],
    ["s3://bucket/../b", {}],
    ["s3://bucket/a/.", {}],
    ["s3://bucket?x", {}],
    ["s3://key:secret@bucket/a", {}],
    ["s3://UPPER", {}],
    ["s3://ab", {}],
    ["s3://bucket", { region: "a b" }],
    ["s3://bucket", { endpoint: "ftp://host" }],
    ["s3://bucket", { endpoint: "host:9000" }],
    ["s3://bucket", { endpoint: "https://host?x" }],
  ])("%s %j is refused", (url, place) => {
    usageErrorOf(() => new S3Address(url, place, {}));
  });

  test("a URL with a login is refused without repeating it", () => {
    const { message } = usageErrorOf(() => new S3Address("s3://key:secret@bucket/a", {}, {}));
    expect(message).not.toContain("secret");
  });

  test("an endpoint with a login is refused without repeating it", () => {
    const place = { endpoint: "https://user:secret@host" };
    const { message } = usageErrorOf(() => new S3Address("s3://bucket", place, {}));
    expect(message).not.toContain("secret");
  });
});
