// Everything that the SDK does with a bucket; run by test_javascript.py, which says how.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";

import {
  CopyObjectCommand,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  paginateListObjectsV2,
  waitUntilBucketExists,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { createPresignedPost } from "@aws-sdk/s3-presigned-post";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const MIB = 1024 ** 2;
const task = JSON.parse(process.argv[2]);
const Bucket = task.bucket;
const names = JSON.parse(task.names);
const options = {
  endpoint: task.url,
  region: "us-east-1",
  forcePathStyle: true,
  maxAttempts: 1,
  credentials: { accessKeyId: task.accessKey, secretAccessKey: task.secretKey },
};
const client = new S3Client(options);

const done = (...capabilities) => console.log(JSON.stringify(capabilities));
const send = (command) => client.send(command);
const bytes = async (answer) => Buffer.from(await answer.Body.transformToByteArray());
const get = async (Key, more = {}) =>
  bytes(await send(new GetObjectCommand({ Bucket, Key, ...more })));

/** Bytes that are the same in every run. */
function noise(size) {
  const blocks = [];
  for (let number = 0; number < size; number += 64) {
    blocks.push(createHash("sha512").update(String(number)).digest());
  }
  return Buffer.concat(blocks, size);
}

async function buckets() {
  const made = { Bucket: `${Bucket}-made` };
  await send(new CreateBucketCommand(made));
  await waitUntilBucketExists({ client, minDelay: 1, maxWaitTime: 5 }, made);
  const found = await send(new ListBucketsCommand({}));
  assert(found.Buckets.some(({ Name }) => Name === made.Bucket));
  await send(new DeleteBucketCommand(made));
  done("buckets");
}

async function tree() {
  for (const name of names) {
    const Body = await readFile(join(task.tree, name));
    const put = await send(new PutObjectCommand({ Bucket, Key: `x/${name}`, Body }));
    assert(put.ETag);
  }
  for (const name of names) {
    const answer = await send(
      new GetObjectCommand({ Bucket, Key: `x/${name}`, ChecksumMode: "ENABLED" }),
    );
    assert(answer.ChecksumCRC32, "a whole object comes with the checksum that it was sent with");
    assert.deepEqual(await bytes(answer), await readFile(join(task.tree, name)));
  }
  for (const ChecksumAlgorithm of ["CRC32C", "CRC64NVME", "SHA1", "SHA256"]) {
    const Key = `by ${ChecksumAlgorithm}`;
    const put = new PutObjectCommand({ Bucket, Key, Body: "checked", ChecksumAlgorithm });
    const sum = (await send(put))[`Checksum${ChecksumAlgorithm}`];
    const head = await send(new HeadObjectCommand({ Bucket, Key, ChecksumMode: "ENABLED" }));
    assert.equal(head[`Checksum${ChecksumAlgorithm}`], sum);
    assert.equal((await get(Key)).toString(), "checked");
    await send(new DeleteObjectCommand({ Bucket, Key }));
  }
  done("tree", "checksums", "delete");
}

async function listing() {
  const found = [];
  const pages = paginateListObjectsV2({ client, pageSize: 3 }, { Bucket, Prefix: "x/" });
  for await (const page of pages) found.push(...page.Contents.map(({ Key }) => Key));
  assert.deepEqual([...found].sort(), names.map((name) => `x/${name}`).sort());
  const below = await send(
    new ListObjectsV2Command({ Bucket, Prefix: "x/sub/", Delimiter: "/", EncodingType: "url" }),
  );
  assert.deepEqual(below.CommonPrefixes, [{ Prefix: "x/sub/deeper/" }]);
  const keys = below.Contents.map(({ Key }) => decodeURIComponent(Key.replaceAll("+", " ")));
  assert.deepEqual(keys, ["x/sub/100% + 1%41.txt", "x/sub/b c+d&e.txt", "x/sub/ü☃.bin"]);
  done("list");
}

async function metadata() {
  const Key = "described ü";
  const described = {
    CacheControl: "max-age=60",
    ContentLanguage: "de",
    ContentType: "text/x",
    Metadata: { colour: "blue" },
  };
  const { ETag } = await send(new PutObjectCommand({ Bucket, Key, Body: "one", ...described }));
  const head = await send(new HeadObjectCommand({ Bucket, Key }));
  for (const [name, value] of Object.entries(described)) assert.deepEqual(head[name], value);
  done("metadata");
  const refused = { name: "PreconditionFailed" };
  const put = (more) => send(new PutObjectCommand({ Bucket, Key, Body: "two", ...more }));
  await assert.rejects(put({ IfNoneMatch: "*" }), refused);
  await put({ IfMatch: ETag });
  await assert.rejects(put({ IfMatch: ETag }), refused);
  assert.equal((await get(Key)).toString(), "two");
  done("conditions");
}

async function multipart() {
  const Body = noise(11 * MIB + 5);
  const Key = "large";
  const upload = new Upload({
    client,
    params: { Bucket, Key, Body: Readable.from([Body.subarray(0, 7 * MIB), Body.subarray(7 * MIB)]) },
    partSize: 5 * MIB,
    queueSize: 3,
  });
  assert.match((await upload.done()).ETag, /-3"$/);
  assert.deepEqual(await get(Key), Body);
  done("multipart");
  assert.deepEqual(await get(Key, { Range: "bytes=6000000-6000009" }), Body.subarray(6e6, 6e6 + 10));
  assert.deepEqual(await get(Key, { Range: "bytes=-4" }), Body.subarray(-4));
  done("range");
  const path = join(task.tree, "app-2.tar");
  const ContentLength = (await stat(path)).size;
  const stream = { Bucket, Key: "stream", Body: createReadStream(path), ContentLength };
  await send(new PutObjectCommand(stream));
  assert.deepEqual(await get("stream"), await readFile(path));
}

async function copies() {
  for (const name of names) {
    const CopySource = encodeURIComponent(`${Bucket}/x/${name}`);
    await send(new CopyObjectCommand({ Bucket, Key: `kept/${name}`, CopySource }));
  }
  done("copy");
}

async function withoutCredentials() {
  const Key = "presigned ü+%";
  const put = new PutObjectCommand({ Bucket, Key, ContentType: "text/x", Metadata: { a: "b" } });
  const headers = { "content-type": "text/x" };
  const url = await getSignedUrl(client, put, { expiresIn: 60 });
  const answer = await fetch(url, { method: "PUT", body: "presigned", headers });
  assert.equal(answer.status, 200, await answer.text());
  const read = await fetch(await getSignedUrl(client, new GetObjectCommand({ Bucket, Key })));
  assert.equal(await read.text(), "presigned");
  assert.equal(read.headers.get("x-amz-meta-a"), "b");
  done("presign");
  const made = await createPresignedPost(client, {
    Bucket,
    Key: "forms/${filename}",
    Conditions: [["content-length-range", 1, 1000], ["starts-with", "$Content-Type", "text/"]],
    Fields: { "Content-Type": "text/x", success_action_status: "201" },
    Expires: 60,
  });
  const form = new FormData();
  for (const [name, value] of Object.entries(made.fields)) form.append(name, value);
  form.append("file", new Blob(["by a form"]), "a ü.txt");
  const posted = await fetch(made.url, { method: "POST", body: form });
  assert.equal(posted.status, 201, await posted.text());
  assert.equal((await get("forms/a ü.txt")).toString(), "by a form");
  done("form");
}

async function removal() {
  const Objects = names.map((name) => ({ Key: `x/${name}` }));
  const answer = await send(new DeleteObjectsCommand({ Bucket, Delete: { Objects } }));
  assert.equal(answer.Deleted.length, names.length);
  const left = await send(new ListObjectsV2Command({ Bucket, Prefix: "x/" }));
  assert.equal(left.KeyCount, 0);
  done("delete many");
}

await buckets();
await tree();
await listing();
await metadata();
await multipart();
await copies();
await withoutCredentials();
await removal();
